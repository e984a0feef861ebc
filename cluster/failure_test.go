package cluster

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFailureKeepsTheFirst(t *testing.T) {
	f := newFailure(testLogger())
	require.NoError(t, f.Cause())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { f.Poison(fmt.Errorf("fault %d", i)) })
	}
	wg.Wait()
	first := f.Cause()
	require.Error(t, first)
	f.Poison(errors.New("later"))
	require.Equal(t, first, f.Cause())
}
