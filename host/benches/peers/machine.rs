//! The machine, its load, and the memory and processor time of processes.

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// The unit of times in `/proc/PID/stat`. Linux promises programs this value on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The lines above the tables: date, machine and version.
pub(crate) fn description() -> String {
    let cpu = proc_line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory =
        proc_line("/proc/meminfo", "MemTotal").and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok());
    let date = Command::new("date").args(["-u", "+%F %H:%M UTC"]).output();
    let date =
        date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "{date}; {} processors ({cpu}), {} GiB, Linux {}; wpool {}",
        cores(),
        memory.unwrap_or(0) >> 20,
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
    )
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load: the average number of processes that wanted to run in the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn proc_line(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The processor time of all children that have been waited for, and of their own such children.
pub(crate) fn children_cpu_secs() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name, may have spaces. So the fields are counted behind it, from the third one
    // on.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(13);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// The processor time of a process's first thread.
pub(crate) fn thread_cpu_secs(pid: u32) -> Option<f64> {
    let nanoseconds = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    Some(nanoseconds.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// The peak of a process's memory so far, in KiB. `None` once it has ended.
pub(crate) fn peak_kib(pid: u32) -> Option<f64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")
}

/// Waits for the end of a process. Gives how it ended, and the peak of its memory in KiB; 0: it was never
/// read.
pub(crate) fn wait_with_peak(child: &mut Child) -> Result<(ExitStatus, f64), String> {
    let mut peak = 0.0;
    // The kernel keeps the peak while the process lives, so only the last reading counts.
    loop {
        peak = peak_kib(child.id()).unwrap_or(peak);
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => return Ok((status, peak)),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Private and proportional memory of a process, in KiB.
pub(crate) fn private_and_pss_kib(pid: u32) -> Option<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some((kib(&text, "Private_Clean:")? + kib(&text, "Private_Dirty:")?, kib(&text, "Pss:")?))
}

fn kib(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}
