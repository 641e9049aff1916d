//! A WASI command, which is any program with a `main`. Writes its arguments, one a line, then its standard
//! input.
//!
//! If the first argument is a number, it is the exit code. WASI 0.2 tells the host only whether the code is
//! 0, so any other number arrives as 1.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut output = io::stdout().lock();
    for arg in &args {
        writeln!(output, "{arg}")?;
    }
    io::copy(&mut io::stdin().lock(), &mut output)?;
    output.flush()?;
    let code = args.first().and_then(|code| code.parse::<u8>().ok());
    Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
}
