;; EXPECT ok, limit, trap or timeout: 4 GiB of random bytes into 64 KiB of memory
(module
(import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
(memory (export "memory") 1)
(func (export "_start") (drop (call $r (i32.const 0) (i32.const -1))) (loop $l (drop (call $r (i32.const 0) (i32.const 65536))) (br $l))))
