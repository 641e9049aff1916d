;; EXPECT ok or trap: each call of preview 1 gets pointers that are all over the place, and no harm is done
(module
(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $r (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_get" (func $a (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_open" (func $o (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
(memory (export "memory") 1)
(func (export "_start")
  (drop (call $w (i32.const 1) (i32.const -8) (i32.const -1) (i32.const -4)))
  (drop (call $r (i32.const -16) (i32.const 64)))
  (drop (call $a (i32.const -1) (i32.const 3)))
  (drop (call $o (i32.const 3) (i32.const -1) (i32.const -1) (i32.const -1) (i32.const -1) (i64.const -1) (i64.const -1) (i32.const -1) (i32.const -1)))))
