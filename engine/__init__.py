"""The engine: feed-forward and recurrent networks trained by backpropagation, in NumPy alone.

It knows no HTTP, no database and no job. Read it in this order:

1. `engine.spec`: what can be asked for.
2. `engine.wires`: what layers hand to each other, and how a layer is bound to a batch size.
3. `engine.layers.dense`, `engine.activations`, `engine.losses`: each goes
   forward, and knows the way back, which is all that backpropagation needs.
4. `engine.network`: layers in order, over one vector of parameters and one of gradients.
5. `engine.optimizers`, `engine.schedules`: how a gradient becomes a step.
6. `engine.training`: the loop, a generator that reports and lets the caller decide.
   `engine.stack`: many small networks at once, by the same calls.
7. `engine.data`: files to tables, tables to numbers, rows to batches.
8. `engine.model`: fitted preprocessing and a trained network, which together predict.
   `engine.preparation`: what is fitted, and on which rows. `engine.baselines`: what is
   predicted without a network.
9. `engine.stack`: several networks at once. `engine.folds`: cross-validation.
10. `engine.checkpoint`: models and trainings to bytes and back. `engine.fitting`: from a table to
    a model, with stops on the way.
11. `engine.gradcheck`: is the gradient right? `engine.inspection`: what goes on inside.

`engine.resolution` decides what a spec leaves open, `engine.footprint` says how much
memory it would take, and `engine.errors` is every refusal on one page.
"""
