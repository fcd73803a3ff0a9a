// The guide's full comparison as one Node.js process: read the feed, walk all pages, compare field by field.
//
//     node benchmarks/guide.mjs BASE_URL FEED KEY
//
// As a careful Node developer writes it: fetch with keep-alive, JSON.parse, a Map by reference. What the guide's own
// sample gets wrong (active rows only, images, a field that does not exist) is put right, its pause is left out.
import { readFileSync } from 'node:fs'

const [baseUrl, feed, key] = process.argv.slice(2)
const FUEL = { Benzine: 'petrol', Diesel: 'diesel', Hybride: 'hybrid', Elektrisch: 'electric' }
const GEARBOX = { Manueel: 'manual', Automaat: 'automatic' }
const VAT = { marge: 'margin', btw: 'btw' }
const PLACES = {
  'DEMO-GENT': ['9000', 'Gent', 'Oost-Vlaanderen'],
  'DEMO-BRUGGE': ['8000', 'Brugge', 'West-Vlaanderen'],
  'DEMO-MECHELEN': ['2800', 'Mechelen', 'Antwerpen'],
}
const FIELDS = ['title', 'brand', 'model', 'variant', 'price', 'mileage', 'year', 'firstRegistration', 'fuelType',
  'transmission', 'bodyType', 'powerKw', 'doors', 'color', 'vehicleType', 'description', 'status']
const PLACE_FIELDS = ['postalCode', 'city', 'province']

function* rows(text) {
  let start = 0
  while (start < text.length) {
    let end = text.indexOf('\n', start)
    if (end < 0) end = text.length
    let line = text.slice(start, end)
    start = end + 1
    if (line.endsWith('\r')) line = line.slice(0, -1)
    if (line) yield line.includes('"') ? quoted(line) : line.split(';')
  }
}

function quoted(line) {
  const cells = []
  const cell = /(?:"((?:[^"]|"")*)"|([^;]*))(;|$)/y
  for (;;) {
    const found = cell.exec(line)
    cells.push(found[1] !== undefined ? found[1].replaceAll('""', '"') : found[2])
    if (!found[3]) return cells
  }
}

function listing(row) {
  const [postalCode, city, province] = PLACES[row.branch]
  return {
    externalReference: row.stock_no,
    title: `${row.make} ${row.model} ${row.version}`.trim(),
    brand: row.make,
    model: row.model,
    variant: row.version || null,
    price: Number(row.price_eur),
    mileage: Number(row.km),
    year: Number(row.year),
    firstRegistration: row.first_reg,
    fuelType: FUEL[row.fuel] ?? row.fuel,
    transmission: GEARBOX[row.gearbox] ?? row.gearbox,
    bodyType: row.body,
    powerKw: Number(row.kw),
    doors: Number(row.doors),
    color: row.colour,
    vehicleType: VAT[row.vat] ?? row.vat,
    description: row.notes || null,
    status: 'active',
    condition: 'used',
    dealerLocationCode: row.branch,
    postalCode, city, province,
    images: Array.isArray(row.photos) ? row.photos : row.photos.split('|'),
  }
}

function* csv(text) {
  const lines = rows(text)
  const columns = lines.next().value
  for (const cells of lines) {
    const row = {}
    for (let i = 0; i < columns.length; i++) row[columns[i]] = cells[i]
    yield row
  }
}

function* jsonl(text) {
  for (const line of text.split('\n')) if (line) yield JSON.parse(line)
}

function readFeed(path) {
  const text = readFileSync(path, 'utf8')
  const found = new Map()
  for (const row of path.endsWith('.csv') ? csv(text) : jsonl(text)) {
    const car = listing(row)
    found.set(car.externalReference, car)
  }
  return found
}

function differs(ours, theirs) {
  for (const field of FIELDS) if ((ours[field] ?? null) !== (theirs[field] ?? null)) return true
  for (const field of PLACE_FIELDS) if ((ours[field] ?? null) !== (theirs.location?.[field] ?? null)) return true
  return ours.dealerLocationCode !== theirs.dealer?.locationCode || ours.images.length !== (theirs.images?.length ?? 0)
}

async function* marketplace() {
  for (let page = 1, pages = 1; page <= pages; page++) {
    const answer = await fetch(`${baseUrl}/listings?page=${page}&pageSize=200&status=all`,
      { headers: { Authorization: `Bearer ${key}` } })
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`)
    const body = await answer.json()
    pages = body.pagination.totalPages
    yield* body.data
  }
}

const began = performance.now()
const usedBefore = process.cpuUsage()
const local = readFeed(feed)
const remote = new Map()
for await (const row of marketplace()) remote.set(row.externalReference, row)
let create = 0, update = 0, same = 0, gone = 0
for (const [reference, car] of local) {
  const row = remote.get(reference)
  if (!row) create++
  else if (differs(car, row)) update++
  else same++
}
for (const [reference, row] of remote) if (!local.has(reference) && row.status !== 'sold') gone++
const seconds = (performance.now() - began) / 1000
const used = process.cpuUsage(usedBefore)
const cpu = (used.user + used.system) / 1e6
console.log(JSON.stringify({ seconds, cpu, create, update, same, gone }))
