//! How this program is started once more: its child processes are itself.

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::sync::OnceLock;

static WORDS: OnceLock<Vec<OsString>> = OnceLock::new();

/// For a program inside another one, as the Python package is: the executable alone would start that other one. The first
/// words given stay.
pub fn is_started_by(words: Vec<OsString>) {
    WORDS.get_or_init(|| words);
}

/// This program, to be given arguments.
pub fn command() -> io::Result<Command> {
    let Some((program, first)) = WORDS.get().and_then(|words| words.split_first()) else {
        return Ok(Command::new(env::current_exe()?));
    };
    let mut command = Command::new(program);
    command.args(first);
    Ok(command)
}
