//! What the end-to-end tests share: a private runtime folder, a spawned agent, a rendered screen.
