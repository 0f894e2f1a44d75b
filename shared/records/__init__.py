"""A record of what was solved, without account or server: ``python3 -m shared record`` and ``verify``.

``solutions`` takes what a learner wrote out of the notebooks; ``page`` makes one HTML page of it and reads it again;
``trial`` runs one solution in a process of its own; ``verify`` does that for a page, a notebook or a class.
"""
