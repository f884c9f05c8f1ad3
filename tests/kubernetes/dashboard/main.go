// Reads the Grafana dashboard that it is given as Grafana's own schema has it: no field more, none less that it wants.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins() // what panels and queries have is by their type
	if complaint := check(os.Args[1]); complaint != "" {
		fmt.Fprintln(os.Stderr, complaint)
		os.Exit(1)
	}
}

func check(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	var read dashboard.Dashboard
	if err := read.UnmarshalJSONStrict(text); err != nil {
		return err.Error()
	}
	return read.Validate().Error() // never nil, and empty where nothing is wrong
}
