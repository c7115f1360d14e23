"""Explanations of a model's answers: one file for each method in `methods/`, all of them on `model.encode` and `read`.

`question.ask_about` says what is explained of one row, `game.Game` asks the model about the row without some of its
parts, and a method returns an `Attribution` (a number for each part) or a `Finding` (a table).
"""
