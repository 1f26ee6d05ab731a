// Which theme a page shows. In the head and not a module: it runs before the first picture, so nothing flashes.
// 'auto' is what the person's system says; every window of this browser follows a choice at once.
;(() => {
  const KEY = 'minipos.theme'
  const CHOICES = ['auto', 'light', 'dark']
  const root = document.documentElement
  const read = () => {
    try {
      const found = localStorage.getItem(KEY)
      return CHOICES.includes(found) ? found : 'auto'
    } catch {
      return 'auto' // this browser keeps nothing
    }
  }
  const show = (choice) => {
    if (choice === 'auto') root.removeAttribute('data-theme')
    else root.dataset.theme = choice
    dispatchEvent(new CustomEvent('themechange', { detail: choice }))
  }
  globalThis.theme = {
    get choice() {
      return read()
    },
    /** Show 'auto', 'light' or 'dark', and remember it. */
    choose(choice) {
      try {
        localStorage.setItem(KEY, choice)
      } catch {
        // shown, and forgotten with the page
      }
      show(choice)
    },
    /** Show the next of the three. */
    next() {
      this.choose(CHOICES[(CHOICES.indexOf(read()) + 1) % CHOICES.length])
    },
  }
  addEventListener('storage', ({ key }) => key === KEY && show(read()))
  show(read())
})()
