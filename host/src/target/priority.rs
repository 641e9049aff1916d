//! How urgent a job is.

/// How often a job gets workers when other jobs of its pool want them too.
/// [`Target::priority`](super::Target::priority) takes it.
///
/// A job gets four times as many batches as a job of the next lower priority. None waits for ever: also a job
/// of low priority is served after a bounded number of others. A worker finishes the task that it is at.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = wpool::Pool::builder(&guest("upper")?).build()?;
/// use wpool::Target;
/// use wpool::target::Priority;
///
/// let nightly = pool.func::<&str, String>(Target::default().priority(Priority::Low))?;
/// let asked = pool.func::<&str, String>(Target::default().priority(Priority::High))?;
/// let report = pool.map_async(&nightly, vec!["a"; 10_000]);
/// assert_eq!(pool.apply(&asked, "now")?, "NOW"); // long before the report is done
/// # report.cancel();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Priority {
    /// For tasks whose results are waited for.
    High,
    /// The default.
    #[default]
    Normal,
    /// For work in the background.
    Low,
}
