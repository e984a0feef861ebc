package main

import (
	"encoding"
	"reflect"
	"strconv"

	"github.com/croftdb/croft/internal/errs"
)

// apply sets the fields of a struct that the settings name. So every field of a configuration can be swept from the
// command line, those that are added later too.
func (s settings) apply(target any) error {
	v := reflect.ValueOf(target).Elem()
	return s.each(func(name, value string) error {
		field := v.FieldByName(name)
		if !field.IsValid() || !field.CanSet() {
			return errs.New(errs.Invalid, "setting %s: %s has no such field", name, v.Type())
		}
		if err := setField(field, value); err != nil {
			return errs.Wrap(errs.Invalid, err, "setting %s", name)
		}
		return nil
	})
}

func setField(field reflect.Value, value string) error {
	if text, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return text.UnmarshalText([]byte(value))
	}
	switch {
	case field.CanInt():
		n, err := strconv.ParseInt(value, 0, field.Type().Bits())
		field.SetInt(n)
		return err
	case field.CanUint():
		n, err := strconv.ParseUint(value, 0, field.Type().Bits())
		field.SetUint(n)
		return err
	case field.CanFloat():
		x, err := strconv.ParseFloat(value, field.Type().Bits())
		field.SetFloat(x)
		return err
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(value)
		field.SetBool(b)
		return err
	case field.Kind() == reflect.String:
		field.SetString(value)
		return nil
	}
	return errs.New(errs.Invalid, "a %s cannot be set from text", field.Type())
}
