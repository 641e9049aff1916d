//! A test program: does with processes what its first argument says, then returns from `main`, which is when
//! its processes are dealt with.

use std::io::{Read, Write};

use wpool::{Module, Process, ProcessBuilder, StartMethod, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    // Were this the main function of a worker too, there would be two of these.
    println!("main");
    let args: Vec<String> = std::env::args().collect();
    let [_, what, method, hello, failing] = &args[..] else {
        return Err("processes WHAT METHOD HELLO FAILING".into());
    };
    let method = if method == "spawn" { StartMethod::Spawn } else { StartMethod::Forkserver };
    let hello = Module::load(hello)?;
    let sleeper = |record: &str| {
        Process::builder(&hello).start_method(method).target(Target::func("run").arg(record)).on_stdout(pass)
    };
    match what.as_str() {
        "leak-daemon" => {
            leak(sleeper("bob:60000").daemon(true))?;
            leak(sleeper("bob:60000").daemon(true))?;
        }
        "leak" => leak(sleeper("bob:300"))?,
        "leak-and-exit" => {
            leak(sleeper("bob:300"))?;
            std::process::exit(7);
        }
        "leak-and-panic" => {
            leak(sleeper("bob:300"))?;
            panic!("this panic is part of a test");
        }
        "exit-in-a-sink" => {
            leak(sleeper("bob:60000"))?;
            let mut process = sleeper("bob:60000").on_stdout(|_| std::process::exit(8)).build()?;
            process.start()?;
            process.join()?;
        }
        "hold" => {
            let endless = Process::builder(&Module::load(failing)?).target(Target::func("run").arg("loop"));
            leak(endless.start_method(method))?;
            leak(sleeper("bob:60000"))?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        "end-codes" => {
            let codes = [true, false].map(|terminates| -> Result<i32, Box<dyn std::error::Error>> {
                let mut process = sleeper(if terminates { "bob:60000" } else { "bob:0" }).build()?;
                process.start()?;
                if terminates {
                    process.terminate()?;
                }
                Ok(process.join()?.exitcode)
            });
            let [terminated, returned] = codes;
            println!("{} then {}", terminated?, returned?);
        }
        "descriptors" => {
            cycles(5, || sleeper("bob:0"))?;
            let before = descriptors(|_| true)?;
            cycles(if method == StartMethod::Spawn { 50 } else { 500 }, || sleeper("bob:0"))?;
            println!("{before} then {}", descriptors(|_| true)?);
        }
        "references" => {
            let is_artefact = |link: &str| link.contains("wpool-artefact");
            let module = Module::loader().no_cache().load(&args[3])?;
            let target = Target::func("run").arg("bob:60000");
            let mut process = Process::builder(&module).start_method(method).target(target).build()?;
            drop(module);
            let before = descriptors(is_artefact)?;
            process.start()?;
            println!("{before} then {}", descriptors(is_artefact)?);
            process.kill()?;
        }
        _ => return Err("there is no such thing to do".into()),
    }
    Ok(())
}

fn pass(bytes: &[u8]) {
    std::io::stdout().write_all(bytes).expect("the test reads this");
}

/// Starts a process, says which it is, and forgets it.
fn leak(process: ProcessBuilder) -> Result<(), Box<dyn std::error::Error>> {
    let mut process = process.build()?;
    process.start()?;
    eprintln!("{}", process.pid().expect("it has been started"));
    std::mem::forget(process);
    Ok(())
}

fn cycles(count: u32, builder: impl Fn() -> ProcessBuilder) -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..count {
        let mut process = builder().on_stdout(|_| ()).build()?;
        process.start()?;
        assert_eq!(process.join()?.exitcode, 0);
        process.close().map_err(|_| "it lives")?;
    }
    Ok(())
}

/// How many of this program's descriptors are of that kind.
fn descriptors(is_one: impl Fn(&str) -> bool) -> std::io::Result<usize> {
    let links =
        std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    Ok(links.filter(|link| link.to_str().is_some_and(&is_one)).count())
}
