//! The `wpool` program.

fn main() -> std::process::ExitCode {
    // Before anything else: in a worker process this does not return.
    wpool::init();
    wpool::cli::main()
}
