//! The node's own processes as a program, so that the tests can start them: `internal internal NAME …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [internal, name, rest @ ..] if internal == "internal" => node::internal(name, rest),
        _ => ExitCode::from(2),
    }
}
