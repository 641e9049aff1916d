//! Where the workers' time went, in words: the table of `--stats`, and a hint if a flag would save much.

use std::time::Duration;

use crate::pool::Stats;

/// A hint is given only above this time.
const HINT_MIN: Duration = Duration::from_millis(500);

/// The table of `--stats`: the workers' time by use, and the time for writing results.
pub(super) fn table(stats: &Stats, writing: Duration) -> String {
    let Stats { tasks, workers, calls, instances, waiting, idle, .. } = *stats;
    let all = calls + instances + waiting + idle;
    let row = |time: Duration, what: &str| {
        let share = if all.is_zero() { 0.0 } else { 100.0 * time.as_secs_f64() / all.as_secs_f64() };
        format!("\n  {:>9.3} s {share:>4.0} %  {what}", time.as_secs_f64())
    };
    let each = |time: Duration| match u32::try_from(tasks) {
        Ok(tasks) if tasks > 0 => format!(", {:.1} us a task", (time / tasks).as_nanos() as f64 / 1e3),
        _ => String::new(),
    };
    let s = if workers == 1 { "" } else { "s" };
    let mut text = format!("where the time of {workers} worker{s} went, {:.3} s in all:", all.as_secs_f64());
    text += &row(calls, &format!("in calls of the guest{}", each(calls)));
    text += &row(instances, &format!("making instances{}", each(instances)));
    text += &row(waiting, "with tasks or results on their way");
    text += &row(idle, "without a task");
    text += &format!("\nwpool itself wrote results for {:.3} s", writing.as_secs_f64());
    text
}

/// Names the flag that helps if most of the time went into something other than the tasks' own work.
/// `had_trouble`: workers were killed or tasks stopped, and their time counts as waiting though no flag would
/// save it.
pub(super) fn hint(stats: &Stats, had_trouble: bool) -> Option<String> {
    let Stats { calls, instances, waiting, .. } = *stats;
    let busy = (calls + instances + waiting).as_secs_f64();
    let most = |time: Duration| time >= HINT_MIN && time.as_secs_f64() > busy / 2.0;
    if most(instances) {
        return Some(format!(
            "{:.1} of the workers' {busy:.1} s went into a fresh instance for each task: --reuse keeps one \
             per worker, whose state then lives on from task to task",
            instances.as_secs_f64()
        ));
    }
    (most(waiting) && !had_trouble).then(|| {
        format!(
            "{:.1} of the workers' {busy:.1} s went by with tasks or results on their way: for tasks as \
             short as these, fewer workers (-j) may be as fast",
            waiting.as_secs_f64()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(calls: u64, instances: u64, waiting: u64) -> Stats {
        let ms = Duration::from_millis;
        let mut stats = Stats::default();
        (stats.tasks, stats.workers) = (1000, 2);
        (stats.calls, stats.instances, stats.waiting, stats.idle) =
            (ms(calls), ms(instances), ms(waiting), ms(100));
        stats
    }

    #[test]
    fn what_dominates_is_named_with_the_option_that_changes_it() {
        assert!(hint(&stats(400, 1000, 100), false).unwrap().contains("--reuse"));
        assert!(hint(&stats(400, 100, 1000), false).unwrap().contains("-j"));
        assert_eq!(hint(&stats(1000, 400, 400), false), None);
        assert_eq!(hint(&stats(1, 10, 1), false), None, "too little to talk about");
    }

    #[test]
    fn f147_after_time_outs_the_time_that_they_took_is_no_reason_for_fewer_workers() {
        assert_eq!(hint(&stats(400, 100, 1000), true), None);
    }

    #[test]
    fn every_kind_of_time_has_its_line() {
        let text = table(&stats(400, 400, 100), Duration::from_millis(7));
        assert!(text.starts_with("where the time of 2 workers went, 1.000 s in all:\n"), "{text}");
        for line in [
            "0.400 s   40 %  in calls of the guest, 400.0 us a task",
            "0.100 s   10 %  without a task",
            "0.007 s",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
