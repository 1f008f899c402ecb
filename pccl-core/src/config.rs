//! Settings, their defaults, and the environment variables that override them.
