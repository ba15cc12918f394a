"""Files of a run: whole or not there, and known when damaged.

Imports nothing, so that a report reads text and arrays without torch: import `storage.files`, `storage.arrays`,
`storage.tables` or `storage.weights`.
"""
