//! Who is in the run and what has been decided: deterministic machines, told the time, told the news.
//! No socket, no thread, no clock, no tensor byte.
//!
//! Both machines have the same four verbs: `handle(input, now)`, `poll_output()`, `next_deadline()`,
//! `on_deadline(now)`.

pub mod master;
pub mod peer;
pub mod table;
