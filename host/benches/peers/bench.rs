//! The parts that all contenders share: files of lines with their expected results, the installed programs,
//! and the timing of a whole command with the check of its results.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::machine;
use super::measure::{Contender, Sample};
use super::native::{self, Work};

/// A file of lines, and the results expected for them.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) work: Work,
    pub(crate) count: usize,
    results: Digest,
}

/// A digest of many lines: `ordered` depends on their order, `any` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Digest {
    lines: usize,
    ordered: u64,
    any: u64,
}

/// The order of a contender's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Kept,
    Any,
}

impl Digest {
    fn of<L: AsRef<[u8]>>(lines: impl Iterator<Item = L>) -> Digest {
        lines.fold(Digest::default(), |digest, line| {
            let mut hasher = DefaultHasher::new();
            line.as_ref().hash(&mut hasher);
            let hash = hasher.finish();
            Digest {
                lines: digest.lines + 1,
                ordered: digest.ordered.rotate_left(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash,
                any: digest.any.wrapping_add(hash),
            }
        })
    }

    fn check(&self, found: Digest, order: Order) -> Result<(), String> {
        match (
            self.lines == found.lines,
            self.any == found.any,
            self.ordered == found.ordered || order == Order::Any,
        ) {
            (false, ..) => Err(format!("{} results for {} tasks", found.lines, self.lines)),
            (true, false, _) => Err("wrong results".to_owned()),
            (true, true, false) => Err("results out of order".to_owned()),
            (true, true, true) => Ok(()),
        }
    }
}

/// The numbers of rounds of xorshift that take 100 microseconds, by engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) wasm: u64,
    pub(crate) native: u64,
    pub(crate) python: u64,
}

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    _installed: tempfile::TempDir,
    pub(crate) program: PathBuf,
    /// The interpreter itself. A shim in front of it would add its own start to each figure.
    python: Option<PathBuf>,
    versions: BTreeMap<String, String>,
}

impl Bench {
    pub(crate) fn new(python: &str) -> std::io::Result<Bench> {
        // In memory if possible: the speed of a disk is no merit of a contender.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        std::fs::write(dir.path().join("peers.py"), include_str!("peers.py"))?;
        let installed = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let program = installed.path().join("wpool");
        // A copy in one piece, as an installed program is. The linker writes its file in small pieces, and
        // the page cache keeps them so: each start of that file takes a tenth longer.
        std::fs::copy(env!("CARGO_BIN_EXE_wpool"), &program)?;
        let mut bench = Bench {
            dir,
            _installed: installed,
            program,
            python: Some(PathBuf::from(python)),
            versions: BTreeMap::new(),
        };
        bench.versions = bench.python_says(&["what"]).map_or_else(|_| BTreeMap::new(), |text| words(&text));
        bench.python = bench.versions.remove("executable").map(PathBuf::from);
        for (name, program) in [("xargs", "xargs"), ("parallel", "parallel")] {
            let version = Command::new(program).arg("--version").stderr(Stdio::null()).output();
            if let Some(first) =
                version.ok().and_then(|o| Some(String::from_utf8_lossy(&o.stdout).lines().next()?.to_owned()))
            {
                bench.versions.insert(name.to_owned(), first.rsplit(' ').next().unwrap_or("").to_owned());
            }
        }
        Ok(bench)
    }

    pub(crate) fn has(&self, peer: &str) -> bool {
        self.versions.contains_key(peer)
    }

    /// The peers that were found, for the head of the report.
    pub(crate) fn peers(&self) -> String {
        let peers: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        peers.join(", ")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.file("cache")
    }

    /// Writes a file of lines. A second file with the same name replaces the first.
    pub(crate) fn input(&self, name: &str, work: Work, lines: impl Iterator<Item = Vec<u8>>) -> Input {
        let path = self.file(name);
        let mut file = BufWriter::new(File::create(&path).expect("a temporary file can be made"));
        let mut known: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let results = Digest::of(lines.map(|line| {
            file.write_all(&line)
                .and_then(|()| file.write_all(b"\n"))
                .expect("a temporary file can be written");
            match work {
                // Computed once for each different line: it takes long, and there are few different ones.
                Work::Xorshift => known.entry(line).or_insert_with_key(|line| work.of(line)).clone(),
                Work::Upper | Work::Echo => work.of(&line),
            }
        }));
        file.flush().expect("a temporary file can be written");
        Input { path, work, count: results.lines, results }
    }

    /// A contender that is a whole command. It writes its results to stdout, or to the file at the given
    /// path.
    pub(crate) fn whole<'b>(
        &self,
        name: &str,
        input: &Input,
        order: Order,
        command: impl Fn(&Path) -> Command + 'b,
    ) -> Contender<'b> {
        let (input, output) = (input.clone(), self.file("output"));
        let ops = input.count as f64;
        let run = move || {
            let stdout = File::create(&output).map_err(|e| e.to_string())?;
            let mut command = command(&output);
            let before = machine::children_cpu_secs();
            let started = Instant::now();
            let status = command.stdout(stdout).stderr(Stdio::inherit()).status();
            let value = started.elapsed().as_secs_f64();
            let second = machine::children_cpu_secs().zip(before).map(|(after, before)| after - before);
            match status.map_err(|e| e.to_string())? {
                status if status.success() => {}
                status => return Err(status.to_string()),
            }
            let text = std::fs::read(&output).map_err(|e| e.to_string())?;
            input.results.check(Digest::of(native::lines(&text).map(result_in)), order)?;
            Ok(Sample { value, second })
        };
        Contender { name: name.to_owned(), ops, ideal: None, run: Box::new(run) }
    }

    /// A command of wpool, with the cache of this run.
    pub(crate) fn wpool(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("WPOOL_CACHE_DIR", self.cache()).args(args).arg("--quiet").stdin(Stdio::null());
        command
    }

    /// A contender that is `wpool map`. Compiles the module into the cache first.
    pub(crate) fn map<'b>(
        &'b self,
        name: &str,
        module: &'static str,
        input: &Input,
        args: &[&str],
    ) -> Contender<'b> {
        self.compile(module);
        let (path, args) = (input.path.clone(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        self.whole(name, input, Order::Kept, move |_| {
            // As the file of results is emptied: the kernel's time for the log of the round before is no
            // part of writing one.
            for log in args.windows(2).filter(|pair| pair[0] == "--joblog") {
                let _none_yet = std::fs::remove_file(&log[1]);
            }
            let mut command = self.wpool(&["map"]);
            command.arg(repo(module)).arg(&path).args(&args);
            command
        })
    }

    pub(crate) fn compile(&self, module: &str) {
        for sandbox in ["default", "off"] {
            let status = self
                .wpool(&["compile", "--sandbox", sandbox])
                .arg(repo(module))
                .stdout(Stdio::null())
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "{module} is in the repository and can be compiled"
            );
        }
    }

    /// A contender that is a whole command of `peers.py`. `None` without Python or without the module
    /// `needs`.
    pub(crate) fn python<'b>(
        &'b self,
        name: &str,
        needs: &str,
        how: &'static str,
        input: &Input,
        jobs: usize,
        artefact: Option<PathBuf>,
    ) -> Option<Contender<'b>> {
        let order = if how == "imap_unordered" { Order::Any } else { Order::Kept };
        let (path, work) = (input.path.clone(), input.work.name());
        self.has(needs).then(|| {
            self.whole(name, input, order, move |output| {
                let mut command = self.python_command(&["whole", how, work, &jobs.to_string()]);
                command.args([&path, output]).args(&artefact);
                command
            })
        })
    }

    /// Compiles the module with wasmtime's Python binding. Returns the path of the artefact.
    pub(crate) fn artefact(&self, module: &str) -> Option<PathBuf> {
        let artefact = self.file(&format!("{}.cwasm", module.rsplit('/').next().unwrap_or(module)));
        self.has("wasmtime").then_some(())?;
        let module = repo(module);
        self.python_says(&["compile", module.to_str()?, artefact.to_str()?]).ok()?;
        Some(artefact)
    }

    fn python_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.python.as_deref().unwrap_or(Path::new("python3")));
        command.arg(self.file("peers.py")).args(args).stdin(Stdio::null());
        command
    }

    /// The output of another command of `peers.py`.
    pub(crate) fn python_says(&self, args: &[&str]) -> Result<String, String> {
        let output =
            self.python_command(args).stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("peers.py {}: {}", args.join(" "), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn xargs<'b>(&self, input: &Input, jobs: usize) -> Option<Contender<'b>> {
        let (path, work) = (input.path.clone(), input.work.name());
        self.has("xargs").then(|| {
            self.whole("xargs -P, native", input, Order::Any, move |_| {
                let mut command = Command::new("xargs");
                command.stdin(Stdio::null());
                command.args(["-d", "\\n", "-n", "1", "-P", &jobs.to_string(), "-a"]).arg(&path);
                command.arg(this_program()).args([native::ASK, work, "line"]);
                command
            })
        })
    }

    /// GNU parallel, with one process for each line, or with `--pipe` one for each block of lines.
    pub(crate) fn parallel<'b>(&self, input: &Input, jobs: usize, pipe: bool) -> Option<Contender<'b>> {
        let (path, work, jobs) = (input.path.clone(), input.work.name(), format!("-j{jobs}"));
        let name = if pipe { "parallel --pipe -k, native" } else { "parallel -k, native" };
        self.has("parallel").then(|| {
            self.whole(name, input, Order::Kept, move |_| {
                let mut command = Command::new("parallel");
                // --plain ignores the user's own settings. --will-cite keeps a notice off stderr.
                command.args(["--plain", "--will-cite", "-k", &jobs]);
                if pipe {
                    command.arg("--pipe").stdin(File::open(&path).expect("the input has been written"));
                } else {
                    command.arg("-a").arg(&path).stdin(Stdio::null());
                }
                command.arg(this_program()).args([native::ASK, work, if pipe { "filter" } else { "line" }]);
                command
            })
        })
    }

    /// Native code in threads of one process: no contender with isolation can be faster.
    pub(crate) fn floor<'b>(&self, input: &Input, jobs: usize) -> Contender<'b> {
        let (path, work) = (input.path.clone(), input.work.name());
        let name = match jobs {
            1 => "native, one process".to_owned(),
            jobs => format!("native, {jobs} threads"),
        };
        self.whole(&name, input, Order::Kept, move |_| {
            let mut command = Command::new(this_program());
            command.stdin(Stdio::null()).args([native::ASK, work, "file"]).arg(&path).arg(jobs.to_string());
            command
        })
    }

    /// Measures the numbers of rounds of xorshift that take 100 us of processor time. The wall clock would
    /// also count the time of other processes on this machine.
    pub(crate) fn rounds(&self) -> Rounds {
        let own = std::process::id();
        let native = fastest(own, &|rounds| {
            std::hint::black_box(native::xorshift(rounds, 1));
        });
        let pool = super::library::pool(&super::library::load(XORSHIFT), 1, wpool::Isolation::Reuse);
        let run = pool.func::<Vec<u8>, Vec<u8>>("run").expect("the guest exports run");
        let call =
            |rounds| drop(pool.apply(&run, format!("{rounds} 1").into_bytes()).expect("the guest returns"));
        call(1);
        let wasm = pool.workers().first().map_or(1, |worker| fastest(worker.pid, &call));
        let python = self.python_says(&["rounds"]).ok().and_then(|text| text.trim().parse().ok());
        Rounds { wasm, native, python: python.unwrap_or(1) }
    }
}

pub(crate) const XORSHIFT: &str = "host/benches/guests/xorshift.wat";

/// The rounds of the best try in 100 us. Other work on the machine only slows a try down, so the best is the
/// truest.
fn fastest(pid: u32, run: &dyn Fn(u64)) -> u64 {
    const ROUNDS: u64 = 12_000_000;
    let tries = (0..12).filter_map(|_| {
        let before = machine::thread_cpu_secs(pid)?;
        run(ROUNDS);
        Some(machine::thread_cpu_secs(pid)? - before)
    });
    let best = tries.min_by(f64::total_cmp).expect("the times of our own processes can be read");
    (ROUNDS as f64 * 100e-6 / best) as u64
}

fn words(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

pub(crate) fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("the kernel knows the program that it runs")
}

/// The result in a line of output: all of it, or the field `output` of a line of `--format jsonl`. No result
/// here has a character that JSON escapes.
fn result_in(line: &[u8]) -> &[u8] {
    const FIELD: &[u8] = b",\"output\":\"";
    let json = line.strip_prefix(b"{\"seq\":");
    let output = json.and_then(|json| Some(&json[memmem(json, FIELD)? + FIELD.len()..]));
    output.and_then(|output| output.split(|byte| *byte == b'"').next()).unwrap_or(line)
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
