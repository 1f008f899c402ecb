//! State machines as tables: one place to read, one lookup, one generated diagram.

use std::fmt;

/// One allowed transition.
#[derive(Clone, Copy, Debug)]
pub struct Transition<S, E> {
    pub from: S,
    pub event: E,
    pub to: S,
}

/// An event that means nothing in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen in state {state:?}")]
pub struct Illegal<S: fmt::Debug, E: fmt::Debug> {
    pub state: S,
    pub event: E,
}

pub fn step<S, E>(table: &[Transition<S, E>], state: S, event: E) -> Result<S, Illegal<S, E>>
where
    S: Copy + PartialEq + fmt::Debug,
    E: Copy + PartialEq + fmt::Debug,
{
    table.iter().find(|t| t.from == state && t.event == event).map(|t| t.to).ok_or(Illegal { state, event })
}

/// The table as a Mermaid state diagram.
pub fn diagram<S: Copy + fmt::Debug, E: Copy + fmt::Debug>(table: &[Transition<S, E>], first: S) -> String {
    let mut text = format!("stateDiagram-v2\n    [*] --> {first:?}\n");
    for t in table {
        text.push_str(&format!("    {:?} --> {:?}: {:?}\n", t.from, t.to, t.event));
    }
    text
}
