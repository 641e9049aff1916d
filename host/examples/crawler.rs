//! Tasks that make tasks: a crawler. Each page is a task, which puts the links of the page into a queue, and
//! these become further tasks of the same map.
//!
//! The guest is guest/examples/crawler. It reads pages from a file; a real one would fetch them.
//!
//! `cargo run --release --example crawler`

use wpool::ipc::{Dict, Queue};
use wpool::policy::DirAccess;
use wpool::{Module, Policy, Pool};

const PAGES: &str = "index: about news\nabout: index\nnews: index about archive\narchive:\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    wpool::init();
    let module = Module::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/prebuilt/crawler.wasm"))?;
    let site = tempfile::tempdir()?;
    std::fs::write(site.path().join("pages.txt"), PAGES)?;
    // `found` feeds the map. `seen` has each link once, whichever task sees it first.
    let (found, seen) = (Queue::<String>::unbounded(), Dict::<String>::new());
    let policy = Policy::sealed()
        .dir(site.path(), "site", DirAccess::ReadOnly)
        .share("found", &found)
        .share("seen", &seen);
    let pool = Pool::builder(&module).processes(2).policy(policy).build()?;
    let crawl = pool.func::<String, String>("run")?;
    let pages = pool.imap_feed(&crawl, ["index".to_owned()], &found);
    let mut pages = pages.collect::<Result<Vec<String>, _>>()?;
    // Two workers may take two links in either order.
    pages[1..].sort();
    pages.iter().for_each(|page| println!("{page}"));
    println!("seen: {}", seen.keys()?.join(" "));
    Ok(())
}
