//! How a model runs on a board.
