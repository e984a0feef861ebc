package main

import (
	"fmt"

	"github.com/croftdb/croft/tenancy"
)

// switchValue is on or off.
type switchValue bool

// Type implements pflag.Value.
func (*switchValue) Type() string { return "on|off" }

// String implements pflag.Value.
func (s *switchValue) String() string {
	if *s {
		return "on"
	}
	return "off"
}

// Set implements pflag.Value.
func (s *switchValue) Set(text string) error {
	if text != "on" && text != "off" {
		return fmt.Errorf("want on or off")
	}
	*s = text == "on"
	return nil
}

// gate makes what lets requests in; nil if all are to run at once.
func (c *config) gate() func(tenancy.AdmissionOptions) (tenancy.Gate, error) {
	if !c.admission {
		return nil
	}
	return func(o tenancy.AdmissionOptions) (tenancy.Gate, error) {
		a, err := tenancy.NewAdmission(o)
		if err != nil {
			return nil, err
		}
		return a, nil
	}
}
