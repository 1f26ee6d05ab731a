// Opens the page at / when the relay is away: what is done offline must survive a reload, and be there to go on with.
// A service worker: the relay is always asked first, so nobody works with an old page while there is a new one.

const CACHE = 'minipos-floor' // the page puts into it what it was loaded from
const PATIENCE = 4000 // milliseconds for a relay that takes a connection and says nothing

addEventListener('fetch', (event) => {
  const { request } = event
  const { origin, pathname } = new URL(request.url)
  if (request.method !== 'GET' || origin !== location.origin || !/^\/$|\.(js|css|svg)$/.test(pathname)) return
  event.respondWith(answer(request))
})

async function answer(request) {
  const cache = await caches.open(CACHE)
  // A module is asked for with an Origin, and the answer varies by it: for whether, not for what.
  const kept = await cache.match(request, { ignoreSearch: request.mode === 'navigate', ignoreVary: true })
  if (!kept) return fetch(request)
  const fetched = fetch(request).then((response) => {
    if (response.ok) cache.put(keyOf(request), response.clone())
    return response.status < 500 ? response : kept // a proxy before a relay that is away says so at once
  })
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, kept))
  return Promise.race([fetched.catch(() => kept), late])
}

/** A page is the same whatever restaurant it is opened for. */
function keyOf(request) {
  const url = new URL(request.url)
  return request.mode === 'navigate' ? url.origin + url.pathname : request.url
}
