package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/internal/client"
)

// Shape of the demo's data: tenants of very unequal size, as they are in life.
const (
	demoIndex   = "acme-docs"
	demoDim     = 64
	demoTenants = 50
	demoRecords = 20_000
	demoSeed    = 1234
)

// demoTopic is what a document can be about, with a title in each language.
type demoTopic map[string][]string

// demoLanguages in order, so that the data are the same every time.
var demoLanguages = []string{"en", "de", "fr", "es"}

var demoTopics = []demoTopic{
	{"en": {"Refund policy", "How to get a refund"}, "de": {"Rückerstattung"}, "fr": {"Politique de remboursement"}, "es": {"Política de reembolso"}},
	{"en": {"Billing FAQ", "Reading your invoice"}, "de": {"Rechnung verstehen"}, "fr": {"Questions de facturation"}, "es": {"Preguntas de facturación"}},
	{"en": {"Changing your plan", "Upgrade or downgrade"}, "de": {"Tarif wechseln"}, "fr": {"Changer de formule"}, "es": {"Cambiar de plan"}},
	{"en": {"Password reset", "I cannot sign in"}, "de": {"Passwort zurücksetzen"}, "fr": {"Mot de passe oublié"}, "es": {"Restablecer contraseña"}},
	{"en": {"Two-factor sign-in", "Recovery codes"}, "de": {"Zwei-Faktor-Anmeldung"}, "fr": {"Double authentification"}, "es": {"Verificación en dos pasos"}},
	{"en": {"Exporting your data", "Data portability"}, "de": {"Daten exportieren"}, "fr": {"Exporter vos données"}, "es": {"Exportar datos"}},
	{"en": {"Deleting an account", "Right to be forgotten"}, "de": {"Konto löschen"}, "fr": {"Supprimer un compte"}, "es": {"Eliminar la cuenta"}},
	{"en": {"Inviting colleagues", "Roles and rights"}, "de": {"Kollegen einladen"}, "fr": {"Inviter des collègues"}, "es": {"Invitar a colegas"}},
	{"en": {"API quick start", "Your first request"}, "de": {"Erste Schritte mit der API"}, "fr": {"Démarrer avec l'API"}, "es": {"Primeros pasos con la API"}},
	{"en": {"Rate limits", "Why am I throttled?"}, "de": {"Ratenbegrenzung"}, "fr": {"Limites de débit"}, "es": {"Límites de uso"}},
	{"en": {"Webhooks", "Verifying signatures"}, "de": {"Webhooks einrichten"}, "fr": {"Configurer les webhooks"}, "es": {"Configurar webhooks"}},
	{"en": {"Shipping times", "Where is my parcel?"}, "de": {"Lieferzeiten"}, "fr": {"Délais de livraison"}, "es": {"Plazos de entrega"}},
	{"en": {"Returning a product", "Return labels"}, "de": {"Rücksendung"}, "fr": {"Retourner un produit"}, "es": {"Devolver un producto"}},
	{"en": {"Warranty terms", "What the warranty covers"}, "de": {"Garantiebedingungen"}, "fr": {"Conditions de garantie"}, "es": {"Condiciones de garantía"}},
	{"en": {"Service status", "Planned maintenance"}, "de": {"Geplante Wartung"}, "fr": {"Maintenance prévue"}, "es": {"Mantenimiento previsto"}},
	{"en": {"Security overview", "How data are encrypted"}, "de": {"Sicherheit im Überblick"}, "fr": {"Aperçu de la sécurité"}, "es": {"Resumen de seguridad"}},
	{"en": {"Onboarding checklist", "The first week"}, "de": {"Checkliste für den Einstieg"}, "fr": {"Liste de démarrage"}, "es": {"Lista de incorporación"}},
	{"en": {"Mobile app", "Working offline"}, "de": {"Mobile App"}, "fr": {"Application mobile"}, "es": {"Aplicación móvil"}},
	{"en": {"Release notes", "What is new"}, "de": {"Versionshinweise"}, "fr": {"Notes de version"}, "es": {"Notas de la versión"}},
	{"en": {"Accessibility", "Keyboard shortcuts"}, "de": {"Barrierefreiheit"}, "fr": {"Accessibilité"}, "es": {"Accesibilidad"}},
}

// demoTenantSizes shares the records out by Zipf's law: tenant n has about 1/n of what the first has, at least one.
func demoTenantSizes(tenants, records int) []int {
	harmonic := 0.0
	for n := 1; n <= tenants; n++ {
		harmonic += 1 / float64(n)
	}
	sizes := make([]int, tenants)
	left := records
	for n := tenants; n > 1; n-- {
		sizes[n-1] = max(1, int(float64(records)/(harmonic*float64(n))))
		left -= sizes[n-1]
	}
	sizes[0] = left
	return sizes
}

func demoTenant(n int) string { return fmt.Sprintf("tenant-%04d", n+1) }

// demoCorpus makes documents whose vectors lie near those of the same topic, and nearest to those of the same title.
type demoCorpus struct {
	rng    *rand.Rand
	titles map[string][]float64
}

func newDemoCorpus(seed uint64) *demoCorpus {
	c := &demoCorpus{rng: rand.New(rand.NewPCG(seed, 0)), titles: map[string][]float64{}}
	for _, topic := range demoTopics {
		centre := c.gaussian(1)
		for _, lang := range demoLanguages {
			for _, title := range topic[lang] {
				c.titles[title] = add(centre, c.gaussian(0.35))
			}
		}
	}
	return c
}

func (c *demoCorpus) gaussian(scale float64) []float64 {
	v := make([]float64, demoDim)
	for i := range v {
		v[i] = scale * c.rng.NormFloat64()
	}
	return v
}

func add(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] + b[i]
	}
	return out
}

// document makes the next one. Values are of length 1 and rounded to what a reader can stand to look at.
func (c *demoCorpus) document(n int) (client.Vector, error) {
	topic := demoTopics[c.rng.IntN(len(demoTopics))]
	lang := demoLanguages[0]
	if c.rng.IntN(2) == 0 {
		lang = demoLanguages[1+c.rng.IntN(len(demoLanguages)-1)]
	}
	title := topic[lang][c.rng.IntN(len(topic[lang]))]
	metadata, err := json.Marshal(struct {
		Title string `json:"title"`
		Lang  string `json:"lang"`
		Year  int    `json:"year"`
	}{title, lang, 2019 + c.rng.IntN(8)})
	return client.Vector{ID: "doc-" + strconv.Itoa(n), Values: unit(add(c.titles[title], c.gaussian(0.25))), Metadata: jsontext.Value(metadata)}, err
}

func unit(v []float64) []float32 {
	norm := 0.0
	for _, x := range v {
		norm += x * x
	}
	norm = math.Sqrt(norm)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(math.Round(x/norm*1e4) / 1e4)
	}
	return out
}
