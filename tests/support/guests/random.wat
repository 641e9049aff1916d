;; `draw` gives a number of each generator of WASI preview 2: secure, secure bytes, insecure, and the two halves of the insecure seed.
(component
  (import "wasi:random/random@0.2.0" (instance $secure
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
    (export "get-random-u64" (func (result u64)))))
  (import "wasi:random/insecure@0.2.0" (instance $insecure
    (export "get-insecure-random-u64" (func (result u64)))))
  (import "wasi:random/insecure-seed@0.2.0" (instance $seed
    (export "insecure-seed" (func (result (tuple u64 u64))))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $u64 (canon lower (func $secure "get-random-u64")))
  (core func $bytes (canon lower (func $secure "get-random-bytes") (memory $mem) (realloc $realloc)))
  (core func $insecure-u64 (canon lower (func $insecure "get-insecure-random-u64")))
  (core func $insecure-seed (canon lower (func $seed "insecure-seed") (memory $mem)))
  (core module $guest
    (import "host" "memory" (memory 1))
    (import "host" "u64" (func $u64 (result i64)))
    (import "host" "bytes" (func $bytes (param i64 i32)))
    (import "host" "insecure-u64" (func $insecure-u64 (result i64)))
    (import "host" "insecure-seed" (func $insecure-seed (param i32)))
    (func (export "draw") (result i32)
      (i64.store (i32.const 0) (call $u64))
      (call $bytes (i64.const 8) (i32.const 512))
      (i64.store (i32.const 8) (i64.load (i32.const 1024)))
      (i64.store (i32.const 16) (call $insecure-u64))
      (call $insecure-seed (i32.const 24))
      (i32.store (i32.const 40) (i32.const 0))
      (i32.store (i32.const 44) (i32.const 5))
      (i32.const 40)))
  (core instance $guest (instantiate $guest (with "host" (instance
    (export "memory" (memory $mem))
    (export "u64" (func $u64))
    (export "bytes" (func $bytes))
    (export "insecure-u64" (func $insecure-u64))
    (export "insecure-seed" (func $insecure-seed))))))
  (alias core export $guest "draw" (core func $draw))
  (func (export "draw") (result (list u64))
    (canon lift (core func $draw) (memory $mem))))
