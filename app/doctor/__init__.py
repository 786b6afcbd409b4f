"""The doctor: looks at everything the service needs, and says what is wrong and what to do.

It changes nothing; in the storage it leaves nothing. Read `checks` first.
"""
