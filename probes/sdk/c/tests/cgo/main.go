// A model server in Go, instrumented through cgo: eight goroutines, which the scheduler moves between threads as it likes.
package main

/*
#include <stdlib.h>
#include <perfwatch.h>
*/
import "C"

import (
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"
)

const (
	workers  = 8
	requests = 250
)

func main() {
	name, path := C.CString("cgo"), C.CString(os.Args[1])
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(path))
	options := C.perfwatch_options_new(name)
	C.perfwatch_options_socket(options, path)
	server := C.perfwatch_options_start(options)

	label, kind := C.CString("go.length"), C.CString("timeout")
	defer C.free(unsafe.Pointer(label))
	defer C.free(unsafe.Pointer(kind))
	lengths := C.perfwatch_histogram_new(server, label, C.PERFWATCH_TOKENS)

	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for number := 0; number < requests; number++ {
				request := C.perfwatch_request_begin(server)
				C.perfwatch_request_enter(request, C.PERFWATCH_QUEUE)
				// The goroutine may go on on another thread.
				time.Sleep(10 * time.Microsecond)
				C.perfwatch_request_enter(request, C.PERFWATCH_COMPUTE)
				C.perfwatch_server_dispatch(server, 1, 1)
				C.perfwatch_histogram_record(lengths, C.uint64_t(number))
				if number%10 == 9 {
					C.perfwatch_request_fail_with(request, kind)
				} else {
					C.perfwatch_request_finish(request)
				}
			}
		}()
	}
	group.Wait()
	C.perfwatch_histogram_free(lengths)
	if !C.perfwatch_server_close(server) {
		fmt.Println("no agent took them")
		os.Exit(1)
	}
	fmt.Println("ok")
}
