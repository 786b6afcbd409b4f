"""The engine: feed-forward networks trained by backpropagation, in NumPy alone.

It knows no HTTP, no database and no job. Read it in this order:

1. `engine.spec`: what can be asked for.
2. `engine.layers.dense`, `engine.activations`, `engine.losses`: each returns
   its output and the way back, which is all that backpropagation needs.
3. `engine.network`: layers in order, over one vector of parameters and one of gradients.
4. `engine.optimizers`, `engine.schedules`: how a gradient becomes a step.
5. `engine.training`: the loop, a generator that reports and lets the caller decide.
6. `engine.data`: files to tables, tables to numbers, rows to batches.
7. `engine.model`: fitted preprocessing and a trained network, which together predict.
8. `engine.checkpoint`: both to bytes and back. `engine.gradcheck`: is the gradient right?

`engine.resolution` decides what a spec leaves open, and `engine.errors` is
every refusal on one page.
"""
