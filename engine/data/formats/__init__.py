"""Files of many formats to one Arrow file, in bounded memory.

Read it in this order:

1. `engine.data.formats.kinds`: the formats, and what a caller may say of a file.
2. `engine.data.formats.ingestion`: the way of a file, from bytes to a kept table.
3. `engine.data.formats.delimited`, `records`, `columnar`, `arrays`, `images`: what each
   format is, cut into pieces of rows.
4. `engine.data.formats.texts`: what strings are taken for: numbers, times, categories.
5. `engine.data.formats.stored`: the Arrow file that is kept, and read when training.
6. `engine.data.formats.names`, `compression`, `messages`: what is refused before anything is read.

Uploads are untrusted: nothing here unpickles, and what a file may unpack to is bounded.
"""
