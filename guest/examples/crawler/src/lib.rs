//! Follows the links between pages.
//!
//! The record is the name of a page. Its links go into the queue `found`, each once: the dict `seen` has the
//! links that some task has put. The host makes further records of the queue's items, and ends when there are
//! no more:
//!
//! ```text
//! $ cat site/pages.txt
//! index: about news
//! about: index
//! news: index about archive
//! archive:
//! $ wpool map crawler.wasm --dir site:ro --share queue:found --feed found --share dict:seen --items index
//! index: 2 links
//! about: 1 link
//! news: 3 links
//! archive: 0 links
//! ```
//!
//! A real crawler would fetch its pages. This one reads the file `site/pages.txt`.
#![forbid(unsafe_code)]

use wpool_guest::ipc::{Dict, Queue};

#[wpool_guest::task]
fn run(page: &str) -> Result<String, Box<dyn std::error::Error>> {
    let (found, seen) = (Queue::<String>::open("found")?, Dict::<String>::open("seen")?);
    // The page itself is seen, too: the first one was never found.
    first_to_see(&seen, page, page)?;
    let pages = std::fs::read_to_string("site/pages.txt")
        .map_err(|error| format!("cannot read site/pages.txt: {error}"))?;
    let links = links(&pages, page).ok_or_else(|| format!("there is no page {page:?}"))?;
    for link in &links {
        if first_to_see(&seen, link, page)? {
            found.put(*link)?;
        }
    }
    let count = links.len();
    Ok(format!("{page}: {count} {}", if count == 1 { "link" } else { "links" }))
}

/// Notes on which page a link was. `false`: it has been noted before.
fn first_to_see(seen: &Dict<String>, link: &str, page: &str) -> Result<bool, wpool_guest::ipc::Error> {
    // One step: of two tasks that see a link at the same time, one is the first.
    Ok(seen.compare_exchange(link, None, Some(&page.into()))?.is_none())
}

/// The links of a page. `None`: there is no such page.
fn links<'t>(pages: &'t str, page: &str) -> Option<Vec<&'t str>> {
    let mut pages = pages.lines().filter_map(|line| line.split_once(':'));
    let (_, links) = pages.find(|(name, _)| *name == page)?;
    Some(links.split_whitespace().collect())
}
