//go:build !js

package builtin

import "embed"

//go:embed */*.json */*.safetensors
var folders embed.FS
