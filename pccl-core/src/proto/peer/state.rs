//! A peer's life as it sees it itself.

use crate::proto::table::Transition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in a run; may connect.
    Idle,
    /// A control connection is being made.
    Dialling,
    /// The control connection is up; the master's welcome is awaited.
    Greeting,
    /// Joined; waits until the others agree.
    Pending,
    /// In an epoch.
    Member,
    /// In an epoch, but the control connection is gone: looks for the master.
    Searching,
    /// A master was found; its welcome is awaited.
    Resuming,
    /// Has left.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Connect,
    ControlUp,
    ControlLost,
    Welcome,
    Accepted,
    /// Refused, kicked, or given up.
    Out,
    Leave,
}

use Event::*;
use State::*;

const fn t(from: State, event: Event, to: State) -> Transition<State, Event> {
    Transition { from, event, to }
}

pub const TABLE: &[Transition<State, Event>] = &[
    t(Idle, Connect, Dialling),
    t(Dialling, ControlUp, Greeting),
    t(Dialling, ControlLost, Idle),
    t(Greeting, Welcome, Pending),
    t(Greeting, ControlLost, Idle),
    t(Pending, Accepted, Member),
    t(Pending, ControlLost, Idle),
    t(Member, Accepted, Member),
    t(Member, ControlLost, Searching),
    t(Searching, ControlUp, Resuming),
    t(Searching, ControlLost, Searching),
    t(Resuming, Welcome, Member),
    t(Resuming, ControlLost, Searching),
    t(Dialling, Out, Idle),
    t(Greeting, Out, Idle),
    t(Pending, Out, Idle),
    t(Member, Out, Idle),
    t(Searching, Out, Idle),
    t(Resuming, Out, Idle),
    t(Idle, Leave, Gone),
    t(Dialling, Leave, Gone),
    t(Greeting, Leave, Gone),
    t(Pending, Leave, Gone),
    t(Member, Leave, Gone),
    t(Searching, Leave, Gone),
    t(Resuming, Leave, Gone),
];
