// Package tell is how the client programs say what is wrong: the first thing that is not as expected ends the program.
package tell

import (
	"fmt"
	"os"
	"time"
)

// Must ends the program when err is one.
func Must(err error, what string) {
	Check(err == nil, "%s: %v", what, err)
}

// Check ends the program unless ok.
func Check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(1)
	}
}

// Wait polls; the test around the program has the patience.
func Wait(what string, done func() bool) {
	for end := time.Now().Add(80 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		Check(time.Now().Before(end), "gave up waiting for %s", what)
	}
}
