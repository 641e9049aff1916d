;; copies its standard input to its standard output, piece by piece
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $read i32) (local $written i32)
    (block $end (loop $more
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 100000))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (local.set $read (i32.load (i32.const 8)))
      (br_if $end (i32.eqz (local.get $read)))
      (local.set $written (i32.const 0))
      (loop $rest
        (i32.store (i32.const 0) (i32.add (i32.const 1024) (local.get $written)))
        (i32.store (i32.const 4) (i32.sub (local.get $read) (local.get $written)))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (local.set $written (i32.add (local.get $written) (i32.load (i32.const 8))))
        (br_if $rest (i32.lt_u (local.get $written) (local.get $read))))
      (br_if $more (i32.const 1))))))
