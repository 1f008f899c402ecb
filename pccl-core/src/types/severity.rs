/// How much a line of the log matters to who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something went wrong, or will if it goes on.
    Warn,
    /// What happens in a run where nothing goes wrong.
    Info,
}
