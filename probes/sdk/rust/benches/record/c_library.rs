//! The C library as programs in other languages call it, through pointers to its functions: loaded by the dynamic linker, or
//! linked into the program (what libperfwatch.a gives), where finding the thread's own part takes no call.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt as _;

/// Nobody listens there.
const SOCKET: &CStr = c"/nonexistent/probe.sock";
const NAME: &CStr = c"bench.duration";
/// `RTLD_NOW`: every symbol at once, so that none is looked up while something is measured.
const NOW: c_int = 2;

#[allow(unsafe_code, reason = "the dynamic linker speaks C")]
// SAFETY: the signatures are POSIX's.
unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Options = unsafe extern "C" fn(*const c_char) -> *mut c_void;
type Socket = unsafe extern "C" fn(*mut c_void, *const c_char);
type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type New = unsafe extern "C" fn(*mut c_void, *const c_char, u8) -> *mut c_void;
type Typed = unsafe extern "C" fn(*const perfwatch::perfwatch_histogram, u64);
type Record = unsafe extern "C" fn(*const c_void, u64);

/// A `perfwatch_histogram`, and the function that records into it.
pub(crate) struct Histogram {
    handle: *mut c_void,
    record: Record,
}

#[allow(unsafe_code, reason = "a handle is a pointer")]
// SAFETY: perfwatch.h allows any thread to use a histogram.
unsafe impl Sync for Histogram {}

impl Histogram {
    /// Starts a server in the library that is part of this program.
    pub(crate) fn linked() -> Self {
        #[allow(unsafe_code, reason = "calling C is what is measured")]
        // SAFETY: strings end with null; a pointer to one type is passed as a pointer to any, as C does.
        unsafe {
            let options = perfwatch::perfwatch_options_new(c"bench".as_ptr());
            perfwatch::perfwatch_options_socket(options, SOCKET.as_ptr());
            let server = perfwatch::perfwatch_options_start(options);
            let handle = perfwatch::perfwatch_histogram_new(server, NAME.as_ptr(), 0);
            let record = std::mem::transmute::<Typed, Record>(perfwatch::perfwatch_histogram_record);
            // Not to be seen through by the optimiser, which cannot do so from C.
            Self { handle: handle.cast(), record: black_box(record) }
        }
    }

    /// Starts a server in the shared library that cargo built for this benchmark.
    pub(crate) fn open() -> Self {
        let bench = std::env::current_exe().expect("a running benchmark");
        let path = bench.parent().expect("it lies in a folder").join("libperfwatch.so");
        let library = CString::new(path.as_os_str().as_bytes()).expect("a path has no null");
        #[allow(unsafe_code, reason = "calling C is what is measured")]
        // SAFETY: the types are those of perfwatch.h, which is generated from the functions; strings end with null.
        unsafe {
            let library = dlopen(library.as_ptr(), NOW);
            assert!(!library.is_null(), "cannot load {}", path.display());
            let find = |name: &CStr| {
                let function = dlsym(library, name.as_ptr());
                assert!(!function.is_null(), "the library has no {name:?}");
                function
            };
            let options = std::mem::transmute::<*mut c_void, Options>(find(c"perfwatch_options_new"));
            let socket = std::mem::transmute::<*mut c_void, Socket>(find(c"perfwatch_options_socket"));
            let start = std::mem::transmute::<*mut c_void, Start>(find(c"perfwatch_options_start"));
            let new = std::mem::transmute::<*mut c_void, New>(find(c"perfwatch_histogram_new"));
            let record = std::mem::transmute::<*mut c_void, Record>(find(c"perfwatch_histogram_record"));
            let options = options(c"bench".as_ptr());
            socket(options, SOCKET.as_ptr());
            let handle = new(start(options), NAME.as_ptr(), 0);
            Self { handle, record }
        }
    }

    pub(crate) fn record(&self, value: u64) {
        #[allow(unsafe_code, reason = "calling C is what is measured")]
        // SAFETY: the handle is never freed.
        unsafe {
            (self.record)(self.handle, value);
        }
    }
}
