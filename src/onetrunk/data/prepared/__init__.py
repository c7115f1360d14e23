"""Tables that are prepared once: read, encoded and kept in a folder of memory-mapped files.

    values/00000/      what the first file held: Arrow record batches in files of some megabytes, and `part.json`
    encoded/KEY/       one column, encoded: one file an array, and `column.json`
    fitted.json        what encoders learnt from the training rows
    splits.safetensors which split each row belongs to
    prepared.json      what was read and decided; it is written last

A file of values, and what was encoded of it, is a shard: shards are made by several processes, each of them is whole or
is not there, and a digest tells whether it is still what was written.
"""
