//! Two lines in a model server, and perfwatch knows every request's life.
