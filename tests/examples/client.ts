// Asks an application over HTTP, by any host name.
import { once } from 'node:events'
import { createServer, request, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

export interface Answer {
  status: number | undefined
  body: unknown
}

export class Client {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  static async of(application: RequestListener): Promise<Client> {
    const server = createServer(application).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Client(server)
  }

  get(host: string): Promise<Answer> {
    return this.#ask('GET', host)
  }

  post(host: string, order: unknown): Promise<Answer> {
    return this.#ask('POST', host, JSON.stringify(order))
  }

  async close(): Promise<void> {
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #ask(method: string, host: string, body?: string): Promise<Answer> {
    const { port } = this.#server.address() as AddressInfo
    const headers = { host, 'content-type': 'application/json' }
    const asked = request({ host: '127.0.0.1', port, path: '/orders', method, headers, agent: false }).end(body)
    const [answer] = await once(asked, 'response')
    return { status: answer.statusCode, body: await json(answer).catch(() => undefined) }
  }
}
