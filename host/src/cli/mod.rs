//! The command line.
use std::io::Write;
#[allow(missing_docs)]
pub fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let module = match crate::Module::load(&args[1]) {
        Ok(m) => m,
        Err(e) => {
            eprintln!("{e}");
            return 2.into();
        }
    };
    let pool = crate::Pool::builder(&module)
        .processes(args.get(3).map_or(2, |n| n.parse().unwrap()))
        .isolation(if args.len() > 4 { crate::Isolation::Reuse } else { crate::Isolation::Fresh })
        .build()
        .unwrap();
    let (mut inputs, mut outcomes) = pool.stream(&crate::Target::default(), true).unwrap();
    let data = std::fs::read(&args[2]).unwrap();
    std::thread::spawn(move || {
        inputs.push_all(data.split(|b| *b == b'\n').filter(|l| !l.is_empty())).ok();
    });
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while outcomes.take_into(&mut |o| match o.result() {
        Ok(b) => {
            out.write_all(b).unwrap();
            out.write_all(b"\n").unwrap()
        }
        Err(e) => eprintln!("{} {e}", o.index()),
    }) {}
    out.flush().unwrap();
    0.into()
}
