//! Imports of types.

use super::*;

/// The interfaces of shared objects that an example guest imports.
fn objects(guest: &str) -> Vec<String> {
    let module = support::guest(guest);
    let names = module.imports().map(|import| import.name.clone());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with("wpool:ipc/") || name.starts_with("wpool:sync/"))
        .map(|name| name.split('@').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_guest_of_the_sdk_imports_the_objects_that_it_uses_and_no_others() {
    assert_eq!(objects("hello"), [""; 0]);
    assert_eq!(objects("crawler"), ["wpool:ipc/dicts", "wpool:ipc/errors", "wpool:ipc/queues"]);
    assert_eq!(
        objects("words"),
        [
            "wpool:ipc/connections",
            "wpool:ipc/errors",
            "wpool:ipc/queues",
            "wpool:ipc/values",
            "wpool:sync/locks",
        ]
    );
}

#[test]
fn f131_an_import_of_types_only_is_not_missing() {
    let dir = scratch();
    for imports in TYPES {
        let module = module(&dir, &answering(imports));
        let ended = run(wpool(["call", &module, "answer"]));
        ends(&ended, 0, "");
        assert_eq!(out(&ended), "42\n", "{imports}");
        for options in [&[][..], &["--reuse"], &["--threads"], &["--start-method", "spawn"]] {
            let map = ["map", &module, "--func", "answer", "--items", "a", "b", "-q"];
            let ended = run(wpool(args(&map, options)));
            assert_eq!(out(&ended), "42\n42\n", "{imports}: {}", err(&ended));
        }
    }
    // A function beside the types is missing as ever.
    let text = answering(r#"(import "demo:geo/types" (instance (export "f" (func))))"#);
    ends(&run(wpool(["call", &module(&dir, &text), "answer"])), 2, "demo:geo/types");
    let imports = wat(&answering(TYPES[0])).imports().map(|import| import.kind).collect::<Vec<_>>();
    assert_eq!(imports, [ImportKind::Types]);
}
