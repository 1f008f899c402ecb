//! The command `pccl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pccl_cli::command::run(std::env::args_os())
}
