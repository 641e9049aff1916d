;; A command of WASI preview 1 that does what its record says, a letter and mostly a path below its first directory, and prints what came of it: text,
;; or "errno N" (N as preview 1 numbers them).
;;
;;   r PATH  reads up to 4096 bytes           w PATH  creates or truncates, writes "written"
;;   a PATH  appends "more"                   b PATH  writes one byte at 2 GiB
;;   d PATH  makes a directory                u PATH  removes a file
;;   x PATH  removes a directory              l PATH  makes a link with that name to ../outside
;;   h PATH  makes a second name "hard" of it m PATH  renames it to "moved"
;;   s PATH  prints the size                  t PATH  sets its times, without following links
;;   f PATH  sets its times, following links  n       prints how many entries the first directory has
;;   e       prints the environment           c       prints both clocks in nanoseconds, each twice
;;   g       prints 8 random bytes            p       prints how many directories there are
;;   z       sleeps for 20 ms, prints "slept"
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory" (func $rmdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))

  ;; 0: buffer descriptors and results; 1024: the record; 16384: what is read; 65536: digits.
  (memory (export "memory") 4)
  (data (i32.const 256) "errno ok written more slept hard moved ../outside ")
  (global $path (mut i32) (i32.const 1026))
  (global $len (mut i32) (i32.const 0))

  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))

  (func $number (param $n i64)
    (local $at i32)
    (local.set $at (i32.const 65600))
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
      (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
      (br_if $next (i64.ne (local.get $n) (i64.const 0))))
    (call $print (local.get $at) (i32.sub (i32.const 65600) (local.get $at))))

  (func $space (call $print (i32.const 261) (i32.const 1)))

  ;; Prints an error; 1 if it is one.
  (func $failed (param $errno i32) (result i32)
    (if (result i32) (local.get $errno)
      (then
        (call $print (i32.const 256) (i32.const 6))
        (call $number (i64.extend_i32_u (local.get $errno)))
        (i32.const 1))
      (else (i32.const 0))))

  (func $said (param $errno i32)
    (if (i32.eqz (call $failed (local.get $errno))) (then (call $print (i32.const 262) (i32.const 2)))))

  ;; Opens the path; the descriptor, or 0 after an error was printed. Rights: read 2, write 64, size 4096.
  (func $open (param $oflags i32) (param $rights i64) (param $fdflags i32) (result i32)
    (if (result i32)
      (call $failed
        (call $path_open (i32.const 3) (i32.const 1) (global.get $path) (global.get $len) (local.get $oflags)
          (local.get $rights) (i64.const 0) (local.get $fdflags) (i32.const 16)))
      (then (i32.const 0))
      (else (i32.load (i32.const 16)))))

  (func $write (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (call $said (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func $read (local $fd i32)
    (local.set $fd (call $open (i32.const 0) (i64.const 2) (i32.const 0)))
    (if (local.get $fd)
      (then
        (i32.store (i32.const 0) (i32.const 16384))
        (i32.store (i32.const 4) (i32.const 4096))
        (if (i32.eqz (call $failed (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
          (then (call $print (i32.const 16384) (i32.load (i32.const 8))))))))

  (func $entries (local $cookie i64) (local $count i64) (local $at i32) (local $end i32)
    (loop $more
      (if (call $failed (call $fd_readdir (i32.const 3) (i32.const 16384) (i32.const 32768) (local.get $cookie) (i32.const 8)))
        (then (return)))
      (local.set $at (i32.const 16384))
      (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
      (loop $next
        ;; An entry: the next cookie, the inode, the name's length, the kind; then the name.
        (if (i32.le_u (i32.add (local.get $at) (i32.const 24)) (local.get $end))
          (then
            (if (i32.le_u
                (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 16))))
                (local.get $end))
              (then
                (local.set $cookie (i64.load (local.get $at)))
                (local.set $count (i64.add (local.get $count) (i64.const 1)))
                (local.set $at
                  (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load (i32.add (local.get $at) (i32.const 16)))))
                (br $next))))))
      (br_if $more (i32.eq (i32.load (i32.const 8)) (i32.const 32768))))
    (call $number (local.get $count)))

  (func $time (param $clock i32)
    (drop (call $clock (local.get $clock) (i64.const 1) (i32.const 32)))
    (call $number (i64.load (i32.const 32)))
    (call $space))

  (func $directories (local $fd i32)
    (local.set $fd (i32.const 3))
    (loop $next
      (if (i32.eqz (call $fd_prestat_get (local.get $fd) (i32.const 32)))
        (then (local.set $fd (i32.add (local.get $fd) (i32.const 1))) (br $next))))
    (call $number (i64.extend_i32_u (i32.sub (local.get $fd) (i32.const 3)))))

  (func $do (param $what i32) (local $fd i32)
    (if (i32.eq (local.get $what) (i32.const 114)) (then (call $read)))
    (if (i32.eq (local.get $what) (i32.const 119))
      (then
        (local.set $fd (call $open (i32.const 9) (i64.const 64) (i32.const 0)))
        (if (local.get $fd) (then (call $write (local.get $fd) (i32.const 265) (i32.const 7))))))
    (if (i32.eq (local.get $what) (i32.const 97))
      (then
        (local.set $fd (call $open (i32.const 0) (i64.const 64) (i32.const 1)))
        (if (local.get $fd) (then (call $write (local.get $fd) (i32.const 273) (i32.const 4))))))
    (if (i32.eq (local.get $what) (i32.const 98))
      (then
        (local.set $fd (call $open (i32.const 1) (i64.const 68) (i32.const 0)))
        (if (local.get $fd)
          (then
            (i32.store (i32.const 0) (i32.const 256))
            (i32.store (i32.const 4) (i32.const 1))
            (call $said
              (call $fd_pwrite (local.get $fd) (i32.const 0) (i32.const 1) (i64.const 0x80000000) (i32.const 8)))))))
    (if (i32.eq (local.get $what) (i32.const 100))
      (then (call $said (call $mkdir (i32.const 3) (global.get $path) (global.get $len)))))
    (if (i32.eq (local.get $what) (i32.const 117))
      (then (call $said (call $unlink (i32.const 3) (global.get $path) (global.get $len)))))
    (if (i32.eq (local.get $what) (i32.const 120))
      (then (call $said (call $rmdir (i32.const 3) (global.get $path) (global.get $len)))))
    (if (i32.eq (local.get $what) (i32.const 108))
      (then
        (call $said
          (call $symlink (i32.const 295) (i32.const 10) (i32.const 3) (global.get $path) (global.get $len)))))
    (if (i32.eq (local.get $what) (i32.const 104))
      (then
        (call $said
          (call $link (i32.const 3) (i32.const 0) (global.get $path) (global.get $len) (i32.const 3) (i32.const 284)
            (i32.const 4)))))
    (if (i32.eq (local.get $what) (i32.const 109))
      (then
        (call $said
          (call $rename (i32.const 3) (global.get $path) (global.get $len) (i32.const 3) (i32.const 289) (i32.const 5)))))
    (if (i32.eq (local.get $what) (i32.const 115))
      (then
        (if (i32.eqz
            (call $failed (call $stat (i32.const 3) (i32.const 1) (global.get $path) (global.get $len) (i32.const 64))))
          (then (call $number (i64.load (i32.const 96)))))))
    (if (i32.eq (local.get $what) (i32.const 116))
      (then
        (call $said
          (call $set_times (i32.const 3) (i32.const 0) (global.get $path) (global.get $len) (i64.const 0) (i64.const 0)
            (i32.const 5)))))
    (if (i32.eq (local.get $what) (i32.const 102))
      (then
        (call $said
          (call $set_times (i32.const 3) (i32.const 1) (global.get $path) (global.get $len) (i64.const 0) (i64.const 0)
            (i32.const 5)))))
    (if (i32.eq (local.get $what) (i32.const 110)) (then (call $entries)))
    (if (i32.eq (local.get $what) (i32.const 112)) (then (call $directories)))
    (if (i32.eq (local.get $what) (i32.const 101))
      (then
        (drop (call $environ_sizes (i32.const 32) (i32.const 36)))
        (drop (call $environ (i32.const 8192) (i32.const 16384)))
        (call $print (i32.const 16384) (i32.load (i32.const 36)))))
    (if (i32.eq (local.get $what) (i32.const 99))
      (then (call $time (i32.const 0)) (call $time (i32.const 0)) (call $time (i32.const 1)) (call $time (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const 103))
      (then
        (drop (call $random (i32.const 32) (i32.const 8)))
        (call $number (i64.load (i32.const 32)))))
    (if (i32.eq (local.get $what) (i32.const 122))
      (then
        ;; One subscription to the monotonic clock, 20 ms from now.
        (i64.store (i32.const 400) (i64.const 0))
        (i32.store (i32.const 408) (i32.const 0))
        (i32.store (i32.const 416) (i32.const 1))
        (i64.store (i32.const 424) (i64.const 20000000))
        (i64.store (i32.const 432) (i64.const 0))
        (i32.store (i32.const 440) (i32.const 0))
        (if (i32.eqz (call $failed (call $poll (i32.const 400) (i32.const 504) (i32.const 1) (i32.const 8))))
          (then (call $print (i32.const 278) (i32.const 5)))))))

  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (global.set $len (i32.sub (i32.load (i32.const 8)) (i32.const 2)))
    (call $do (i32.load8_u (i32.const 1024)))))
