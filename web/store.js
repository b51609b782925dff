// Conversations in this browser (IndexedDB).  Where that is forbidden or broken they live as long as the page, and `lasting`
// is false.
const NAME = "aha", STORE = "conversations";

function wait(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function openDatabase() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return wait(request);
}

export class Store {
  lasting = true;
  memory = new Map();

  async open() {
    try {
      this.db = await openDatabase();
      this.db.onversionchange = () => this.db.close();
    } catch {
      this.lasting = false;
    }
    return this;
  }

  objects(mode) {
    return this.db.transaction(STORE, mode).objectStore(STORE);
  }

  // All of them, the one changed last first.
  async all() {
    const list = this.lasting ? await wait(this.objects("readonly").getAll()) : [...this.memory.values()].map((c) => structuredClone(c));
    return list.sort((a, b) => b.changed - a.changed);
  }

  async get(id) {
    return this.lasting ? wait(this.objects("readonly").get(id)) : structuredClone(this.memory.get(id));
  }

  async put(conversation) {
    if (this.lasting) await wait(this.objects("readwrite").put(conversation));
    else this.memory.set(conversation.id, structuredClone(conversation));
  }

  async remove(id) {
    if (this.lasting) await wait(this.objects("readwrite").delete(id));
    else this.memory.delete(id);
  }

  async clear() {
    if (this.lasting) await wait(this.objects("readwrite").clear());
    else this.memory.clear();
  }
}
