//! Imports of types.

use super::*;

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
