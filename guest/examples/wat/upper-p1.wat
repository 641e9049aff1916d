;; A command of WASI preview 1, which is a core module. Copies its standard input to its standard output, with
;; ASCII letters in upper case. Exits with 1 if reading or writing fails.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param $fd i32) (param $iovs i32) (param $iovs_len i32) (param $nread i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write
      (param $fd i32) (param $iovs i32) (param $iovs_len i32) (param $nwritten i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param $code i32)))

  ;; Addresses: 0 is the buffer's descriptor (address, length), 8 the number of bytes read or written, 4096
  ;; the buffer.
  (memory (export "memory") 2)
  (global $buffer i32 (i32.const 4096))
  (global $buffer_len i32 (i32.const 65536))

  (func (export "_start")
    (local $len i32)
    (loop $next
      (local.set $len (call $read))
      (if (local.get $len)
        (then
          (call $upper (local.get $len))
          (call $write (local.get $len))
          (br $next)))))

  ;; Fills the buffer. Gives the number of bytes read, which is 0 at the end of the input.
  (func $read (result i32)
    (i32.store (i32.const 0) (global.get $buffer))
    (i32.store (i32.const 4) (global.get $buffer_len))
    (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))

  (func $upper (param $len i32)
    (local $at i32) (local $end i32)
    (local.set $at (global.get $buffer))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (loop $next
      ;; One comparison for both ends of `a` to `z`: a byte below `a` wraps around to a large number.
      (if (i32.lt_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)) (i32.const 26))
        (then
          (i32.store8 (local.get $at) (i32.sub (i32.load8_u (local.get $at)) (i32.const 32)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; Writes the whole buffer. One `fd_write` may take a part of it.
  (func $write (param $len i32)
    (local $at i32) (local $written i32)
    (local.set $at (global.get $buffer))
    (loop $next
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $len))
      (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $written (i32.load (i32.const 8)))
      (local.set $at (i32.add (local.get $at) (local.get $written)))
      (local.set $len (i32.sub (local.get $len) (local.get $written)))
      (br_if $next (local.get $len))))

  (func $check (param $errno i32)
    (if (local.get $errno)
      (then (call $proc_exit (i32.const 1))))))
