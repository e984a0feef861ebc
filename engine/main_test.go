package engine

import (
	"testing"

	"github.com/croftdb/croft/internal/faultdisk"
)

func TestMain(m *testing.M) { faultdisk.TestMain(m) }
