"""The experiments that introduced backpropagation, run again on this engine.

Rumelhart, Hinton & Williams, "Learning representations by back-propagating
errors", Nature 323 (1986), and chapter 8 of "Parallel Distributed Processing",
volume 1 (1986). ``python -m examples.classics`` runs all of them over fifty
seeds and writes what came of it to ``docs/classics.md``. In reading order:

1. `tasks` and `families`: what is asked, and what is a right answer.
2. `nets`: what is trained, built from the engine's layers.
3. `experiments`: every row of the table; which net learns which task, and how fast.
4. `runs`: a net for every seed is trained until its answers are right.
5. `findings`: what the hidden units have learnt. `drawing` and `page` show it.
"""
