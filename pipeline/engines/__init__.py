"""Where the heavy work is computed: in this process, or on the nodes of a Ray cluster; there, training, too.

Belongs here: handing work out, bringing results home, what a worker does. Not here: what is worked on and
where results are stored. Only whoever hands work out speaks to Postgres, so that nothing is stored twice.
"""
