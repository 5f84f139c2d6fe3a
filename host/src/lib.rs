//! How a model is made and reviewed.
